"""Enhance videos: frames and sound are read by `reader`, and written by `writer` and `sound`.

A format to read is an extension in `cli.py`, one to write an entry of `_FORMATS` in `writer.py`. Importing this package
does not import PyAV, which is needed only once there is a video.
"""

from .cli import VIDEO_EXTENSIONS, VideoJob, add_video_options, enhance_videos, is_video, plan_videos

__all__ = ["VIDEO_EXTENSIONS", "VideoJob", "add_video_options", "enhance_videos", "is_video", "plan_videos"]
