"""Videos: `cli` is the part of the command that handles them; PyAV is imported only once there is one."""

from .cli import VIDEO_EXTENSIONS, VideoJob, add_video_options, enhance_videos, is_video, plan_videos

__all__ = ["VIDEO_EXTENSIONS", "VideoJob", "add_video_options", "enhance_videos", "is_video", "plan_videos"]
