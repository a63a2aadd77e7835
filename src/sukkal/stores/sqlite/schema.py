"""Tables of the embedded store, and how their form changes.

A queue's messages live in a *box*, one generation of the queue: purging or deleting the queue leaves the
box behind, dead, and the next message opens a new one. A message's *place* is the box's number in the high
bits and a store-wide sequence number in the low ones, so that one queue's messages lie side by side in the
order of their acceptance and markers stay good from box to box.

Most messages are posted without delay and claimed in their order. Until then the message is all there is
of them: they lie in the *tail* of their box, from the place `box.tail` on. A claim takes them from there and
moves the tail. The lowest bit of a place tells that a message never counts as part of it, since it was
delayed from its start. So that a tail does not begin with any number of such places, what comes moves it on
while it is empty, and a claim or pop moves it to the first message that it finds there.

    box      number ← project, name; kept counters; tail; dead ones are reclaimed by the sweep
    message  what the producer sent; never rewritten, but for ttl and expires when a claim extends them
    ready    places outside the tail that can be claimed now, with the number of claims so far
    held     places under a lease, or whose lease lapsed at `due` and were not yet moved back to ready
    delayed  places that become claimable at `due`, or did and were not yet moved to ready
    lease    what a claim was given; rows go with their last message, or after they lapsed
    mark     notes on queues, all of which are in memory too
    document the control plane's records
    meta     `schema`: version of this form; `sequence`: numbers below it may have been used

A live place is in the tail or in exactly one of ready, held and delayed.

To change the form: append a script to `MIGRATIONS`, never edit one that was released. On opening, scripts
beyond the stored version run in order, each in a transaction of its own with the new version number.
"""

import apsw

SEQUENCE_BITS = 41  # 1.1e12 messages over the life of a store, and the lowest bit
BOX_BITS = 22  # 4.2e6 generations of queues at one time
SEQUENCE_MASK = (1 << SEQUENCE_BITS) - 1
MAX_BOX = (1 << BOX_BITS) - 1
LISTED = 1  # the lowest bit of a place that is never part of the tail

MIGRATIONS = [
    """
    CREATE TABLE box (
        id      INTEGER PRIMARY KEY,
        project TEXT NOT NULL,
        name    TEXT NOT NULL,
        dead    INTEGER NOT NULL DEFAULT 0,
        total   INTEGER NOT NULL DEFAULT 0,
        held    INTEGER NOT NULL DEFAULT 0,
        delayed INTEGER NOT NULL DEFAULT 0
    );
    CREATE UNIQUE INDEX box_key ON box (project, name) WHERE dead = 0;
    CREATE INDEX box_dead ON box (id) WHERE dead = 1;

    CREATE TABLE message (
        place   INTEGER PRIMARY KEY,
        box     INTEGER NOT NULL,
        id      TEXT NOT NULL,
        ttl     INTEGER NOT NULL,
        created REAL NOT NULL,
        visible REAL NOT NULL,
        expires REAL NOT NULL,
        client  TEXT NOT NULL,
        body    BLOB NOT NULL -- last, so that what is passed over need not be read to its end
    );
    -- Ids grow with time, so all queues' entries go in at the right edge of one tree.
    CREATE UNIQUE INDEX message_id ON message (id, box);
    CREATE INDEX message_expires ON message (expires);

    CREATE TABLE ready (
        place  INTEGER PRIMARY KEY,
        claims INTEGER NOT NULL
    );
    CREATE TABLE held (
        place  INTEGER PRIMARY KEY,
        box    INTEGER NOT NULL,
        due    REAL NOT NULL,
        claim  TEXT NOT NULL,
        claims INTEGER NOT NULL
    );
    CREATE INDEX held_due ON held (box, due);
    CREATE TABLE delayed (
        place  INTEGER PRIMARY KEY,
        box    INTEGER NOT NULL,
        due    REAL NOT NULL,
        claims INTEGER NOT NULL
    );
    CREATE INDEX delayed_due ON delayed (box, due);
    CREATE TABLE lease (
        box   INTEGER NOT NULL,
        id    TEXT NOT NULL,
        ttl   INTEGER NOT NULL,
        grace INTEGER NOT NULL,
        since REAL NOT NULL,
        due   REAL NOT NULL,
        PRIMARY KEY (box, id)
    ) WITHOUT ROWID;
    CREATE INDEX lease_due ON lease (due);

    CREATE TABLE document (
        kind    TEXT NOT NULL,
        project TEXT NOT NULL,
        name    TEXT NOT NULL,
        version INTEGER NOT NULL,
        value   BLOB NOT NULL,
        expires REAL,
        PRIMARY KEY (kind, project, name)
    ) WITHOUT ROWID;

    INSERT INTO meta VALUES ('sequence', 1);
    """,
    # What is stored was listed when it came; the tail begins behind it. Places now have one bit more.
    f"""
    ALTER TABLE box ADD COLUMN tail INTEGER NOT NULL DEFAULT 0;
    UPDATE box SET tail = (id << {SEQUENCE_BITS}) + (SELECT value FROM meta WHERE key = 'sequence');
    """,
    """
    CREATE TABLE mark (
        project TEXT NOT NULL,
        name    TEXT NOT NULL,
        note    TEXT NOT NULL,
        PRIMARY KEY (project, name)
    ) WITHOUT ROWID;
    """,
]


class UnusableFile(Exception):
    """A file that this code cannot keep a store in; the text says why, and what to do."""


def stored_version(connection: apsw.Connection) -> int:
    """The version of a file's form; 0 before the first. Raises apsw.SQLError when it is no store of ours."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchone()
    return int(row[0]) if row else 0


def migrate(connection: apsw.Connection) -> None:
    """Bring the file to the newest form; UnusableFile when it is ahead of this code."""
    connection.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID")
    version = stored_version(connection)
    if version > len(MIGRATIONS):
        raise UnusableFile(
            f"The store has schema version {version}, this release knows {len(MIGRATIONS)}: "
            "start the release that wrote it, or a later one."
        )
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(script)
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('schema', ?)", (number,))
        connection.execute("COMMIT")
