"""Between Chalice and the use cases: answers with their headers, cookies, the page's proof of origin, JSON bodies, problems."""
import functools
import hmac
import json
import pathlib
from http.cookies import CookieError, SimpleCookie

from chalice import Response

from chalicelib import log, ports, problem, settings, signin
from chalicelib.gateways.outcomes import OutOfTime
from chalicelib.problem import Problem

_LARGEST_BODY_KIB = 16
_WEB = pathlib.Path(__file__).parent / "web"
_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
          ".svg": "image/svg+xml"}
_SAFE = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                               "img-src 'self' https://cdn.discordapp.com; form-action 'self'; frame-ancestors 'none'; "
                               "base-uri 'none'",
}


def answering(view):
    """The view's problems become problem JSON; whatever else goes wrong becomes a 500 that tells nothing, and a log line."""
    @functools.wraps(view)
    def answered(*args, **kwargs):
        try:
            return view(*args, **kwargs)
        except Problem as known:
            return _problem(known)
        except OutOfTime:
            return _problem(problem.try_later("Stripe"))
        except settings.BadSetting:
            raise   # the operator must see it at once
        except Exception as error:
            log.failure("view_failed", error, function=view.__name__)
            return _problem(Problem(500, "failed", "Something went wrong here", "The request could not be completed.",
                                    "Try again; if it stays so, tell the server's owner."))
    return answered


def answer(body=None, status=200, cookies=(), **headers):
    """A JSON answer that is never cached (`body` None: empty)."""
    shown = {**_SAFE, "Content-Type": "application/json", **headers}
    if cookies:
        shown["Set-Cookie"] = list(cookies)
    return Response("" if body is None else json.dumps(body, separators=(",", ":")), headers=shown, status_code=status)


def redirect(address, *, status=302, cookies=()):
    """The browser goes to `address`: one of ours, or a processor's."""
    return answer(status=status, cookies=cookies, Location=address)


def static(name, status=200):
    """A file of the web client, or Problem 404. Only files that lie flat in `chalicelib/web` exist."""
    files = _files()
    if name not in files:
        raise problem.not_found()
    path = files[name]
    headers = {**_SAFE, "Content-Type": _TYPES[path.suffix], "Cache-Control": "no-cache"}
    return Response(path.read_text(encoding="utf-8"), headers=headers, status_code=status)


@functools.cache
def _files():
    return {path.name: path for path in _WEB.iterdir() if path.suffix in _TYPES}


def session(request):
    """(secret, member) of the signed-in browser. Raises Problem 401."""
    secret = cookie(request, _cookie_name("session"))
    return secret, signin.member(secret)


def changing(request, *fields):
    """(member, body) of a change asked for by the portal's own page: JSON, own origin, the session's token.

    `fields` are the names that the body may have; others are refused. Raises Problem 400, 401, 403 or 413.
    """
    secret, member = session(request)
    given = request.headers.get("x-csrf-token") or ""
    site = request.headers.get("sec-fetch-site", "same-origin")
    origin = request.headers.get("origin", settings.get().origin)
    if (site not in ("same-origin", "none") or origin != settings.get().origin or not given.isascii()
            or not hmac.compare_digest(given, signin.csrf_token(secret))):
        raise problem.cross_site()
    return member, _body(request, fields)


def _body(request, fields):
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise Problem(415, "not-json", "The body must be JSON", "The Content-Type must be application/json.")
    raw = request.raw_body or b"{}"
    if len(raw) > _LARGEST_BODY_KIB * 1024:
        raise problem.too_large(_LARGEST_BODY_KIB)
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise problem.bad_request("The body is not JSON.") from None
    if not isinstance(body, dict):
        raise problem.bad_request("The body must be a JSON object.")
    if unknown := sorted(set(body) - set(fields)):
        raise problem.bad_request(f"Unknown field: {unknown[0][:40]!r}. Known: {', '.join(fields) or 'none'}.")
    return body


def query(request, name):
    """The query parameter of that name, or None. Raises Problem 400 for another parameter, or one that stands twice."""
    asked = request.query_params
    if not asked:
        return None
    if set(asked) != {name} or len(asked.getlist(name)) != 1:
        raise problem.bad_request(f"Known query parameters: {name}, once.")
    return asked[name]


def raw_body(request):
    """The exact bytes of the body, for signatures."""
    return request.raw_body or b""


def cookie(request, name):
    """The cookie's value, or "" when there is none, it is odd, or it stands more than once."""
    header = request.headers.get("cookie", "")
    if len(header) > 8_192 or header.count(f"{name}=") > 1:
        return ""
    try:
        jar = SimpleCookie(header)
    except CookieError:
        return ""
    return jar[name].value if name in jar else ""


def sign_in_cookie(request):
    """This browser's own secret of the sign-in under way."""
    return cookie(request, _cookie_name("signin"))


def session_cookie(request):
    """The session secret that this browser sends, valid or not."""
    return cookie(request, _cookie_name("session"))


def set_session(secret):
    """The Set-Cookie values after signing in."""
    return [_cookie("session", secret, settings.SESSION_SECONDS), _cookie("signin", "", 0)]


def set_sign_in(secret):
    """The Set-Cookie values when a sign-in begins."""
    return [_cookie("signin", secret, settings.SIGN_IN_SECONDS)]


def clear_session():
    """The Set-Cookie values after signing out."""
    return [_cookie("session", "", 0)]


def deadline():
    """Until when this request's outside calls must be over (wall clock): the function's limit less a margin."""
    return ports.wall() + settings.WEB_SECONDS - 1


def _cookie_name(name):
    """Browsers take `__Host-` and Secure cookies over https only; a portal on http exists in the local stage alone."""
    return f"__Host-rolekeep-{name}" if settings.get().secure else f"rolekeep-{name}"


def _cookie(name, value, seconds):
    secure = "; Secure" if settings.get().secure else ""
    return f"{_cookie_name(name)}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}"


def _problem(known):
    response = answer(known.body(), known.status)
    response.headers["Content-Type"] = "application/problem+json"
    return response
