"""References: path-relative, with what needs quoting quoted."""

from urllib.parse import parse_qsl

from hypothesis import given
from hypothesis import strategies as st

from sukkal.model import topic
from sukkal.wire import links


def test_places_of_things() -> None:
    assert links.queue("a.b") == "/v2/queues/a.b"
    assert links.messages("q") == "/v2/queues/q/messages"
    assert links.claimed("/v2/queues/q/messages/m", "c") == "/v2/queues/q/messages/m?claim_id=c"
    assert links.claim("q", "c") == "/v2/queues/q/claims/c"
    assert links.subscriptions("q") == "/v2/queues/q/subscriptions"
    assert links.subscription("q", "s") == "/v2/queues/q/subscriptions/s"
    assert links.confirmation("q", "s") == "/v2/queues/q/subscriptions/s/confirm"


def test_topics_are_elsewhere() -> None:
    assert links.queue(topic("a.b")) == "/v2/topics/a.b"
    assert links.messages(topic("t")) == "/v2/topics/t/messages"
    assert links.confirmation(topic("t"), "s") == "/v2/topics/t/subscriptions/s/confirm"


def test_query_leaves_out_what_is_not_set_and_writes_booleans_in_lower_case() -> None:
    given = {"limit": 3, "echo": True, "detailed": False, "name": None, "marker": "m"}
    assert links.query(given) == "limit=3&echo=true&marker=m"
    assert links.query({}) == ""


def test_zero_and_blank_text_are_set() -> None:
    assert links.query({"limit": 0, "name": ""}) == "limit=0&name="


def test_query_quotes_names_and_values() -> None:
    assert links.query({"a&b": "c d/é?=#%+"}) == "a%26b=c%20d%2F%C3%A9%3F%3D%23%25%2B"


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(st.dictionaries(text, text))
def test_query_reads_back_as_it_was_given(parameters: dict[str, str]) -> None:
    query = links.query(parameters)
    assert query.isascii()
    assert dict(parse_qsl(query, strict_parsing=bool(query))) == parameters
