"""An event log: several readers follow one queue, each at its own pace. Uses openstacksdk.

Reading takes nothing away. A reader keeps the id of the last event it saw and goes on after it next time.
"""

import os
import uuid
from typing import Any

from keystoneauth1.noauth import NoAuth
from keystoneauth1.session import Session
from openstack.connection import Connection

URL = os.environ.get("SUKKAL_URL", "http://127.0.0.1:8888")
QUEUE = f"events-{uuid.uuid4()}"


class Demo(NoAuth):
    """No identity service: the project is taken as given, as in a trusted network."""

    def get_project_id(self, session: Session, **_: Any) -> str:
        return "demo"


class Reader:
    """Somebody who wants to see every event once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.position: dict[str, str] = {}  # a real reader stores this with its own data

    def read(self, messaging: Any) -> None:
        for event in messaging.messages(QUEUE, **self.position):
            print(f"{self.name} reads: {event.body['event']}")
            self.position = {"marker": event.id}


def main() -> None:
    messaging = Connection(session=Session(auth=Demo(endpoint=f"{URL}/v2"))).message
    billing, shipping = Reader("billing"), Reader("shipping")

    def happens(*events: str) -> None:
        messaging.post_message(QUEUE, [{"body": {"event": event}, "ttl": 86400} for event in events])

    happens("order 1 placed", "order 1 paid")
    billing.read(messaging)
    happens("order 2 placed", "order 1 packed", "order 2 cancelled")
    billing.read(messaging)
    shipping.read(messaging)
    messaging.delete_queue(QUEUE)


if __name__ == "__main__":
    main()
