"""What the control calls of the sandboxes have in common: which there are, and which one a request means."""
import dataclasses
import re

from .http import SHARED_CONTROLS, BadControl, json_answer


class ControlCalls:
    """Control calls under /_sandbox/ beyond those that every sandbox has; `routes` are (method, path pattern, call(wish, *ids) -> Answer).

    `options` is the dataclass of what may be set until the next start.
    """

    def __init__(self, routes, *, options):
        self.options = options
        self._routes = [(method, re.compile(f"/_sandbox/{path}$"), call) for method, path, call in (
            ("GET", "", self.index), ("GET", "options", self.show_options), ("PATCH", "options", self.set_options), *routes)]

    def answer(self, request):
        """What the control call answers; 404 for one there is not."""
        for method, pattern, call in self._routes:
            match = pattern.match(request.path)
            if match and method == request.method:
                return call(request.json(), *match.groups())
        return json_answer({"error": f"no control call {request.method} {request.path}"}, 404)

    def index(self, wish):
        """Which control calls there are."""
        return json_answer({"calls": [*SHARED_CONTROLS, *(f"{method} {pattern.pattern[10:-1].replace('([^/]+)', '{id}')}" for method, pattern, _ in self._routes)]})

    def show_options(self, wish):
        """The options as they are."""
        return json_answer(dataclasses.asdict(self.options))

    def set_options(self, wish):
        """The options in `wish` have these values until the next start."""
        for name, value in wish.items():
            if not hasattr(self.options, name):
                raise BadControl(f"no option {name}")
            setattr(self.options, name, tuple(value) if isinstance(value, list) else value)
        return self.show_options(wish)
