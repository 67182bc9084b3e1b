"""What Envoy itself answers where no variant does: one form of error for clients, with the reason. Pure."""

from taxiway_serving.names import HEADER_HANDLE, HEADER_REASON, HEADER_REQUEST_ID
from taxiway_serving.routing.cluster_resources import Json


def local_replies() -> Json:
    """Return how Envoy words the answers that it gives by itself."""
    by_envoy = _error_body("%RESPONSE_CODE_DETAILS%", "%LOCAL_REPLY_BODY%")
    not_found = _error_body("%RESPONSE_CODE_DETAILS%", "no handle is served under this path")
    by_route = _error_body(f"%RESP({HEADER_REASON})%", "%LOCAL_REPLY_BODY%")
    handle = {"header": {"key": HEADER_HANDLE, "value": "%ROUTE_NAME%"}}
    overflow = {"header": {"key": "retry-after", "value": "1"}}
    return {
        "mappers": [
            {"filter": {"response_flag_filter": {"flags": ["NR"]}}, "body_format_override": not_found},
            {
                "filter": {"response_flag_filter": {"flags": ["UO"]}},
                "headers_to_add": [handle, overflow],
                "body_format_override": by_envoy,
            },
            {
                "filter": {"response_flag_filter": {}},
                "headers_to_add": [handle],
                "body_format_override": by_envoy,
            },
            # Without a flag, a 404 or 503 can only be one of the replies that the routes hold ready.
            {
                "filter": {"or_filter": {"filters": [_status(404), _status(503)]}},
                "headers_to_add": [handle],
                "body_format_override": by_route,
            },
        ],
        "body_format": by_envoy,
    }


def _status(code: int) -> Json:
    equal = {"op": "EQ", "value": {"default_value": code, "runtime_key": "taxiway.local_reply_status"}}
    return {"status_code_filter": {"comparison": equal}}


def _error_body(reason: str, message: str) -> Json:
    error = {
        "code": "%RESPONSE_CODE%",
        "reason": reason,
        "message": message,
        "handle": "%ROUTE_NAME%",
        "request_id": f"%REQ({HEADER_REQUEST_ID})%",
    }
    return {"json_format": {"error": error}}
