"""What the bench says: one JSON object a line, with name, value, unit, reference and ratio, and nothing else."""
import json


class Lines:
    """Writes measurements to `out`, and remembers them, so that a later one can be compared with an earlier one."""

    def __init__(self, out):
        self._out, self._values = out, {}

    def say(self, name, value, unit, *, reference=None):
        """The measurement is on `out`.

        `reference` is the name of an earlier line, a number, or None; `ratio` is value / reference, or null where that says nothing.
        """
        against = self._values[reference] if isinstance(reference, str) else reference
        ratio = round(value / against, 3) if against else None
        self._values[name] = value
        line = {"name": name, "value": round(value, 3), "unit": unit, "reference": reference, "ratio": ratio}
        print(json.dumps(line), file=self._out, flush=True)


def percentile(samples, share):
    """The smallest sample that at least `share` (0 to 1) of all samples do not exceed: nothing is interpolated."""
    ordered = sorted(samples)
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]
