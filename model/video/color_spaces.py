"""Convert video frames from the decoder's colors to RGB, and back to those of the encoder."""

import av
import numpy as np
from av.video.reformatter import Interpolation

# FFmpeg's numbers of YCbCr matrices: BT.709, FCC, BT.470BG and SMPTE 170M (both BT.601), SMPTE 240M, BT.2020.
_BT709, _BT470BG, _SMPTE170M, _MATRICES = 1, 5, 6, (1, 4, 5, 6, 7, 9)
LIMITED, FULL = 1, 2


def rgb_of(frame: av.VideoFrame) -> np.ndarray:
    """The pixels of a decoded frame, RGB `(H, W, 3)`: uint8, or uint16 from more than 8 bits a component."""
    deep = max(component.bits for component in frame.format.components) > 8
    matrix, full = colors_of(frame)
    rgb = frame.reformat(
        format="rgb48le" if deep else "rgb24",
        src_colorspace=None if frame.format.is_rgb else _for_scaler(matrix),
        src_color_range=FULL if full or frame.format.is_rgb else LIMITED,
        dst_color_range=FULL,
        interpolation=Interpolation.BICUBIC,
    )
    return rgb.to_ndarray()


def colors_of(frame: av.VideoFrame) -> tuple[int, bool]:
    """FFmpeg's number of the YCbCr matrix, guessed as players do if it is not given, and whether the range is full."""
    matrix = 9 if frame.colorspace == 10 else frame.colorspace  # BT.2020 with constant luminance is treated as without
    if matrix not in _MATRICES:
        matrix = _BT709 if frame.width >= 1280 or frame.height > 576 else _SMPTE170M
    return matrix, frame.color_range == FULL and not frame.format.is_rgb


def frame_of(pixels: np.ndarray, format: str, matrix: int, full: bool) -> av.VideoFrame:
    """A frame of RGB pixels, uint8 `(H, W, 3)`, in an encoder's format, with the matrix and range from `colors_of`."""
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    if format == "rgb24":
        return frame
    return frame.reformat(
        format=format,
        dst_colorspace=_for_scaler(matrix),
        dst_color_range=FULL if full else LIMITED,
        interpolation=Interpolation.BICUBIC,
    )


def _for_scaler(matrix: int) -> int:
    """The matrix's number for FFmpeg's scaler, which has only one of the two for BT.601."""
    return _BT470BG if matrix == _SMPTE170M else matrix
