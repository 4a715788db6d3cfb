from collections.abc import Sequence

class Program:
    columns: int
    def __new__(
        cls,
        takes: bytes,
        constants: bytes,
        indices: bytes,
        nodes: bytes,
        trees: bytes,
        steps: bytes,
        /,
    ) -> Program: ...
    def score(self, rows: Sequence[Sequence[float]], /) -> list[float]: ...
