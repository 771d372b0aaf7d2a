"""Refusals in the forms in which PayPal's REST APIs word them (the texts of the official files, shared by all APIs but payments v1)."""

NOT_FOUND = "The specified resource does not exist."
NOT_PROCESSABLE = "The requested action could not be performed, semantically incorrect, or failed business validation."
NOT_WELL_FORMED = "Request is not well-formed, syntactically incorrect, or violates schema."
UNAUTHENTICATED = "Authentication failed due to missing authorization header, or invalid authentication credentials."
UNKNOWN_ID = "Specified resource ID does not exist. Please check the resource ID and try again."


class Refusal(Exception):
    """An error answer: HTTP `status` and `body`, to which the debug id is still added."""

    def __init__(self, status, name, message, details=(), **more):
        super().__init__(f"{name}: {message}")
        self.status = status
        self.body = {"name": name, "message": message, **({"details": list(details)} if details else {}), **more}


class TokenRefusal(Refusal):
    """401 in the form of the OAuth server, which also stands before every API."""

    def __init__(self, error, description, status=401):
        super().__init__(status, error, description)
        self.body = {"error": error, "error_description": description}


def not_found():
    """404: there is no such thing, or it is another merchant's, which looks the same."""
    return Refusal(404, "RESOURCE_NOT_FOUND", NOT_FOUND, [{"issue": "INVALID_RESOURCE_ID", "description": UNKNOWN_ID}])


def no_such_payment():
    """The 404 of payments v1, which words it in its own way (PayPal-Ruby-SDK#273)."""
    return Refusal(404, "INVALID_RESOURCE_ID", "The requested resource ID was not found",
                   information_link="https://developer.paypal.com/docs/api/payments/#errors")


def unprocessable(issue, description):
    """422: this cannot be done now."""
    return Refusal(422, "UNPROCESSABLE_ENTITY", NOT_PROCESSABLE, [{"issue": issue, "description": description}])


def malformed(field, issue, description):
    """400: one field of the body is wrong."""
    return Refusal(400, "INVALID_REQUEST", NOT_WELL_FORMED, [{"field": field, "location": "body", "issue": issue, "description": description}])
