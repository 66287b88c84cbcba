"""What can go wrong, as far as a caller must tell it apart."""


class PetctError(Exception):
    """A message for the person at the keyboard: what, where, got, expected."""


class StudyError(PetctError):
    """One study cannot be used; the others go on without it.

    ``source`` is the file or folder at fault, for ``excluded.tsv``.
    """

    def __init__(self, message: str, source: str = "") -> None:
        super().__init__(message)
        self.source = source
