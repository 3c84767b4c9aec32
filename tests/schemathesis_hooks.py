"""How schemathesis writes bodies of types that it does not know."""

import json

import schemathesis


@schemathesis.serializer(
    "application/x-ndjson", "text/csv", "application/vnd.apache.arrow.stream"
)
def in_lines(_context, value):
    """Text and bytes as they are; of anything else a line of JSON."""
    if isinstance(value, bytes):
        return value
    text = value if isinstance(value, str) else json.dumps(value) + "\n"
    return text.encode(errors="surrogatepass")
