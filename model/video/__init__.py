"""Videos: `cli` is the part of the command that handles them; PyAV is imported only once there is one."""

from typing import TYPE_CHECKING

from .cli import VIDEO_EXTENSIONS, VideoJob, add_video_options, enhance_videos, is_video, plan_videos

if TYPE_CHECKING:
    from .enhance_frames import Report, VideoError, enhance_video

__all__ = [
    "VIDEO_EXTENSIONS",
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
