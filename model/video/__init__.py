"""Enhance videos: frames and sound are read by `reader`, and written by `writer` and `sound`.

A format to read is an extension in `cli.py`, one to write an entry of `_FORMATS` in `writer.py`. Importing this package
does not import PyAV, which is needed only once there is a video.
"""

from typing import TYPE_CHECKING

from .cli import VideoJob, add_video_options, enhance_videos, is_video, plan_videos

if TYPE_CHECKING:
    from .enhance_frames import Report, VideoError, enhance_video

__all__ = [
    "Report",
    "VideoError",
    "VideoJob",
    "add_video_options",
    "enhance_video",
    "enhance_videos",
    "is_video",
    "plan_videos",
]


def __getattr__(name: str) -> object:
    if name not in ("Report", "VideoError", "enhance_video"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import enhance_frames

    return getattr(enhance_frames, name)
