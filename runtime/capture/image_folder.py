"""Separate pictures: one file, a folder of them, or all that a glob matches."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from edgedet.errors import EdgedetError, SourceError
from edgedet.runtime.capture.frame import Frame
from edgedet.runtime.capture.image import PICTURE_SUFFIXES, read_image
from edgedet.runtime.capture.source import OnBroken

__all__ = ["FolderSource", "GlobSource", "PictureSource", "Pictures"]


class Pictures:
    """Reads a list of picture files in order; ``sequence`` is the place in ``paths``."""

    live = False
    moving = False
    fps: float | None = None

    def __init__(self, name: str, stem: str, paths: Sequence[Path], on_broken: OnBroken) -> None:
        self.name = name
        self.stem = stem
        self.paths = tuple(paths)
        self.frame_count: int | None = len(self.paths)
        self._on_broken = on_broken
        self._next = 0
        self._skipped = 0

    def read(self) -> Frame | None:
        """Read the next picture that can be read; see ``Source.read``."""
        while self._next < len(self.paths):
            sequence, path = self._next, self.paths[self._next]
            self._next += 1
            try:
                image = read_image(path)
            except EdgedetError as error:
                self._skipped += 1
                if self._on_broken is None:
                    raise
                self._on_broken(error)
                continue
            skipped, self._skipped = self._skipped, 0
            return Frame((image,), sequence, 0, str(path), dropped_before=skipped)
        return None

    def close(self) -> None:
        """Nothing is held between pictures."""


class PictureSource(Pictures):
    """One picture file; ``on_broken`` is not asked, since nothing would be left to do."""

    def __init__(self, path: str | Path, on_broken: OnBroken = None) -> None:
        if not Path(path).is_file():
            raise SourceError("a picture", f"'{path}', which does not exist", "Check the path")
        super().__init__(str(path), Path(path).stem, [Path(path)], None)


class FolderSource(Pictures):
    """The pictures directly in a folder, sorted by name; hidden files are left out."""

    def __init__(self, path: str | Path, on_broken: OnBroken = None) -> None:
        folder = Path(path)
        if not folder.is_dir():
            raise SourceError("a folder", f"'{path}', which is none", "Check the path")
        try:
            files = sorted(file for file in folder.iterdir() if _is_picture(file))
        except OSError as error:
            raise SourceError("a readable folder", f"'{path}' ({error.strerror})", "Check its permissions") from error
        if not files:
            raise SourceError(
                f"a folder with pictures ({', '.join(PICTURE_SUFFIXES)})",
                f"'{path}', which has none",
                f"Pass the folder that holds them, or a glob such as '{folder / '**' / '*.jpg'}'",
            )
        super().__init__(str(path), folder.resolve().name, files, on_broken)


class GlobSource(Pictures):
    """The pictures that a pattern matches, sorted by path; ``**`` stands for any depth of folders."""

    def __init__(self, pattern: str | Path, on_broken: OnBroken = None) -> None:
        # Path.glob takes no absolute patterns.
        matches = sorted(Path(match) for match in glob.glob(str(pattern), recursive=True))  # noqa: PTH207
        files = [file for file in matches if _is_picture(file)]
        if not files:
            found = f"{len(matches)} other files" if matches else "nothing"
            raise SourceError(
                "a glob that matches pictures",
                f"'{pattern}', which matches {found}",
                "Check the pattern; a video is named by its path, one at a time",
            )
        super().__init__(str(pattern), files[0].resolve().parent.name or "pictures", files, on_broken)


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".") and path.is_file()
