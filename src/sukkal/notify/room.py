"""Room in memory, of which no project can take so much that there is none for others."""


class _Used:
    __slots__ = ("count", "size")

    def __init__(self) -> None:
        self.count = 0
        self.size = 0


class Room:
    """For so many things, of so many bytes together.

    A project may take as much as is left free. So one alone gets half of it, two a third each, and there is
    always some for one more. What is refused is not to be waited for: it belongs into the store. Of a project
    that has nothing but things without a size, one has room whatever its size, if there is any left.
    """

    def __init__(self, *, count: int, size: int) -> None:
        self._count = count
        self._size = size
        self._used: dict[str, _Used] = {}

    def take(self, project: str, size: int) -> bool:
        """Take room for one thing of so many bytes; False when there is none for the project."""
        used = self._used.get(project) or _Used()
        if used.count >= self._count or (used.size + size > self._size if used.size else self._size <= 0):
            return False
        self._used[project] = used
        used.count += 1
        used.size += size
        self._count -= 1
        self._size -= size
        return True

    def leave(self, project: str, size: int) -> None:
        """Give back what was taken."""
        used = self._used[project]
        used.count -= 1
        used.size -= size
        self._count += 1
        self._size += size
        if not used.count:
            del self._used[project]
