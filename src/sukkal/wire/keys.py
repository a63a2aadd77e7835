"""Secret keys that are too poor to keep anything by."""

MIN_KEY = 32  # characters
LEAST_DIFFERENT = 8  # of them
KNOWN_KEYS = (  # also when repeated to the length
    "change_me",
    "changeme",
    "secret",
    "test_key",
    "s3cret",
    "notreallysecret",
    "password",
)


def is_known(key: str) -> bool:
    """Whether a key is one of those that stand in examples, or a few characters over and over."""
    repeated = ((known * len(key))[: len(key)] for known in KNOWN_KEYS)
    return len(set(key)) < LEAST_DIFFERENT or key.lower() in repeated
