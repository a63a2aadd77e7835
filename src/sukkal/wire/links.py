"""Where things are found: path-relative references, as every answer gives them."""

from urllib.parse import quote

QUEUES = "/v2/queues"


def queue(name: str) -> str:
    return f"{QUEUES}/{name}"


def messages(queue_name: str) -> str:
    return f"{QUEUES}/{queue_name}/messages"


def message(queue_name: str, id_: str, claim: str | None = None) -> str:
    """The claim's id comes last and alone in the query: clients take it from there."""
    href = f"{QUEUES}/{queue_name}/messages/{id_}"
    return href if claim is None else f"{href}?claim_id={claim}"


def claim(queue_name: str, claim_id: str) -> str:
    return f"{QUEUES}/{queue_name}/claims/{claim_id}"


def next_page(path: str, query: dict[str, str], marker: str) -> str:
    """The page after `marker`, with the same query."""
    given = "".join([f"{_quoted(name)}={_quoted(value)}&" for name, value in query.items()])
    return f"{path}?{given}marker={_quoted(marker)}"


def _quoted(text: str) -> str:
    return text if text.isascii() and text.replace("_", "").isalnum() else quote(text, safe="")
