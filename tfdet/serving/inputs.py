"""Images and videos that a word of a user stands for: a file, a folder, a pattern, a camera."""

import dataclasses
import glob
import os

from tfdet.data.image_names import ENDINGS, is_image, is_other_picture
from tfdet.errors import UserError
from tfdet.serving import video


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What is looked at.

    Attributes:
        images: files; also those that turn out to be none.
        videos: files and cameras.
        note: a sentence about files of a folder that are left out; "" for none.
    """

    images: tuple[str, ...] = ()
    videos: tuple[str, ...] = ()
    note: str = ""


def find(word: str, called: str = "source") -> Inputs:
    """What `word` stands for; a `UserError` where that is nothing.

    Args:
        word: a file, a folder (not those below it), a pattern (`**` for all folders below), or a
            camera, see `video.VideoReader`.
        called: what the user knows the word as, for errors.
    """
    if video.is_camera(word):
        return Inputs(videos=(word,))
    if os.path.isfile(word):  # also where its name reads like a pattern
        return _sorted_out([word])
    if os.path.isdir(word):
        return _of_folder(word, called)
    files = sorted(path for path in glob.glob(word, recursive=True) if os.path.isfile(path))
    if not files:
        raise UserError(
            f"no file matches {called}={word}; give a file, a folder, a pattern in quotes, or "
            "camera:0 (web addresses other than rtsp:// and lists of files are not read)"
        )
    return _sorted_out(files)


def _sorted_out(files: list[str]) -> Inputs:
    """Images and videos apart, by their names."""
    videos = tuple(file for file in files if video.is_video(file))
    return Inputs(tuple(file for file in files if not video.is_video(file)), videos)


def _of_folder(folder: str, called: str) -> Inputs:
    names = [x for x in sorted(os.listdir(folder)) if os.path.isfile(os.path.join(folder, x))]
    images = [name for name in names if is_image(name)]
    videos = [name for name in names if video.is_video(name)]
    others = [name for name in names if is_other_picture(name)]
    notes = []
    if videos and images and not video.is_installed():
        notes.append(f"{len(videos)} videos need PyAV: pip install 'tfdet[video]'")
        videos = []
    if not images and not videos:
        raise UserError(
            f"folder {folder} holds no image ({', '.join(ENDINGS)}) and no video; for the folders "
            f"below it give a pattern in quotes, {called}='{os.path.join(folder, '**', '*.jpg')}'"
        )
    if others:
        kinds = ", ".join(sorted({os.path.splitext(name)[1].lower() for name in others}))
        notes.append(
            f"{len(others)} files of {folder} are of kinds that are not read ({kinds}); convert "
            "them to JPEG or PNG"
        )
    first, second = (
        tuple(os.path.join(folder, name) for name in group) for group in (images, videos)
    )
    return Inputs(first, second, "; ".join(notes))
