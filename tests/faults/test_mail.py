"""A service that sends mail, and its mail server, are killed in turn, while that refuses some and hangs up.

Every acknowledged message came as a mail to each recipient at least once; or, where the mail server refuses
the recipient for good, lies in the dead letter queue, once. There is no other dead letter.

Short: two lives. SUKKAL_LONG=1: many.
"""

import json
import random
from collections import Counter
from collections.abc import Mapping
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from mail_server import Mailbox, running
from smtp_server import Mail, Rule

from .story import Story, all_ended, strike, subscribe
from .victim import LONG, SETTINGS, Victim, seed

pytestmark = pytest.mark.faults

LIVES = 12 if LONG else 2  # of the service
MOST_POSTS = 60  # before a kill
POSTS_MEANWHILE = 20  # acknowledged while there is no mail server
PATIENT = {
    "retries_with_no_delay": 1,
    "minimum_delay_retries": 100,
    "minimum_delay": 1,
    "maximum_delay": 11,
    "maximum_delay_retries": 100,
}
REFUSALS = {"unknown": "550 no such user", "unwanted": "554 not this one"}  # for good, by recipient


def address(name: str) -> str:
    return f"{name}@example.org"


RULES = (
    Rule("RCPT", REFUSALS["unknown"], to=address("unknown")),
    Rule("DATA", REFUSALS["unwanted"], to=address("unwanted")),
    Rule("RCPT", "451 come again", to=address("busy"), chance=0.1),
    Rule("DATA", "452 no room", to=address("busy"), chance=0.1),
    Rule("RCPT", "421 closing", to=address("busy"), chance=0.02),
    Rule("RCPT", None, to=address("cut-off"), chance=0.05),
    Rule("DATA", None, to=address("cut-off"), chance=0.05),
    Rule("TAKEN", None, to=address("forgetful"), chance=0.1),
    Rule("TAKEN", "451 did I take it?", to=address("forgetful"), chance=0.1),
)
NAMES = ("well", "busy", "cut-off", "forgetful", *REFUSALS)


class Recipient:
    """One of those whose mail is kept in a mailbox."""

    def __init__(self, name: str, mailbox: Mailbox) -> None:
        self.url = f"mailto:{address(name)}"
        self._address = address(name)
        self._mailbox = mailbox
        self._seen = 0  # of the mails in there
        self._taken: Counter[int] = Counter()

    @property
    def taken(self) -> Mapping[int, int]:
        kept = self._mailbox.kept
        self._taken.update(number(mail) for mail in kept[self._seen :] if mail.recipients == [self._address])
        self._seen = len(kept)
        return self._taken


def number(mail: Mail) -> int:
    told = message_from_bytes(mail.content, policy=policy.default).get_content()
    return int(json.loads(told)["body"]["number"])


async def test_mail_arrives_or_is_a_dead_letter_whoever_is_killed(tmp_path: Path) -> None:
    chance = random.Random(seed())
    story = Story()
    with running(tmp_path / "mails") as mails, mails.mailbox(*RULES, seed=chance.getrandbits(32)) as mailbox:
        sending = SETTINGS | {"smtp_mode": "self_local", "smtp_port": str(mailbox.port), "smtp_tls": "none"}
        recipients = {name: Recipient(name, mailbox) for name in NAMES}
        for life in range(LIVES):
            server = Victim(tmp_path, settings=sending)
            try:
                if life == 0:
                    await subscribe(server.port, list(recipients.values()), _retry_policy=PATIENT)
                if life % 2:  # else mail is under way when the service dies
                    amount = chance.randrange(5, MOST_POSTS)
                    await story.post(server.port, amount, mails.kill, more=POSTS_MEANWHILE)
                    mails.start()
                amount = chance.randrange(5, MOST_POSTS)
                await story.post(server.port, amount, lambda: strike(server, chance))  # noqa: B023
            except BaseException:
                server._process.kill()
                raise
            server.bury()
        server = Victim(tmp_path, settings=sending)
        try:
            letters = await all_ended(server.port, story.acknowledged, list(recipients.values()))
        finally:
            server.stop()
    assert story.open > 0, "no kill hit anything"
    for name, recipient in recipients.items():
        dead = letters[recipient.url]
        if name in REFUSALS:
            assert not recipient.taken
            assert story.acknowledged <= set(dead)
            assert set(dead.values()) == {1}
        else:
            assert story.acknowledged <= set(recipient.taken)
            assert not dead
    assert max(recipients["forgetful"].taken.values()) > 1, "it never came again, so there was no fault"
