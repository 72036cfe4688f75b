"""Text that is already split into words: one paragraph a line, words with spaces between, as in WikiText.

Source: Merity, Xiong, Bradbury and Socher, "Pointer Sentinel Mixture Models", 2016, arXiv:1609.07843.
"""

from __future__ import annotations

from bench.data.files import DataError

END = b"<eos>"  # stands for the end of a line
CONTROL = bytes(c for c in (*range(32), 127) if c != ord("\n"))


def words(raw: bytes, where: str) -> list[bytes]:
    """The words in order, UTF-8, with "<eos>" at the end of each line.

    Only spaces and ends of lines part words; other white space of Unicode is an ordinary character.

    Args:
        raw: the unpacked file.
        where: its name, for messages.

    Raises:
        DataError: empty, torn within a line, not UTF-8, a control character, or "<eos>" as a word.
    """
    if not raw:
        raise DataError(f"{where}: empty, expected lines of words")
    if not raw.endswith(b"\n"):
        raise DataError(f"{where}: torn: its last line has no end (the last bytes are {raw[-12:]!r})")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 at byte {error.start}: {error.reason}") from error
    if len(raw.translate(None, CONTROL)) != len(raw):
        bad = next(i for i, byte in enumerate(raw) if byte in CONTROL)
        raise DataError(f"{where}: control character 0x{raw[bad]:02x} at byte {bad}: this is no text of words")
    found = raw.replace(b"\n", b" " + END + b" ").split()
    if found.count(END) != raw.count(b"\n"):
        raise DataError(f"{where}: holds the word {END.decode()}, which is to mark the ends of lines")
    return found
