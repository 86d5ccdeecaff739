"""Answers to requests that are not served."""


class Refusal(Exception):
    """Why a request, or one image of it, is not served; the client gets `{"error": message}`.

    Args:
        status: of HTTP: 4xx where the client can mend it, 503 where it may try again.
        message: one sentence for whoever wrote the client.
        reason: a short name for the metrics, such as "damaged_image".
    """

    def __init__(self, status: int, message: str, reason: str):
        super().__init__(message)
        self.status = status
        self.message = message
        self.reason = reason


def invalid(message: str) -> Refusal:
    """The request itself is wrong."""
    return Refusal(400, message, "invalid_request")
