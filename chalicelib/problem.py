"""Errors that people see: RFC 9457 problem JSON that says what happened, why, and what to do next."""


class Problem(Exception):
    """An answer that is not a success. `code` names it for programs, `detail` says why, `next_step` what to do."""

    def __init__(self, status, code, title, detail, next_step=""):
        super().__init__(code)
        self.status, self.code, self.title, self.detail, self.next_step = status, code, title, detail, next_step

    def body(self):
        """The problem as a JSON-ready dict."""
        body = {"type": f"urn:rolekeep:problem:{self.code}", "title": self.title, "status": self.status, "detail": self.detail}
        return body | ({"next": self.next_step} if self.next_step else {})


def bad_request(detail):
    return Problem(400, "bad-request", "The request is not understood", detail)


def not_found():
    return Problem(404, "not-found", "Not found", "There is nothing here, or nothing of yours.")


def signed_out():
    return Problem(401, "signed-out", "You are not signed in", "This needs a signed-in member.", "Sign in with Discord.")


def cross_site():
    return Problem(403, "not-from-this-page", "The change was refused",
                   "Changes are accepted only from the portal's own page, with its token.", "Reload the page and try again.")


def too_large(most=256):
    return Problem(413, "too-large", "The request is too large", f"At most {most} KiB are accepted.")


def try_later(what):
    return Problem(503, "try-later", f"{what} cannot be reached", f"{what} did not answer in time.",
                   "Try again in a minute.")
