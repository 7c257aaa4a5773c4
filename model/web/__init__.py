"""What browsers read: style sheets, scripts and shaders, files of their own beside this one."""

from .sources import bundle, source, template

__all__ = ["bundle", "source", "template"]
