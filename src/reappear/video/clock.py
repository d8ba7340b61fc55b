"""Converts the presentation time stamps of a file to strictly increasing times."""

_MAX_REORDER = 0.5  # seconds that stamps may run backwards because a muxer put frames out of order
_MAX_GAP = 24 * 3600.0  # seconds without a frame; a larger jump is a new clock
_STEP_OUT_OF_ORDER = 1e-6  # seconds


class Clock:
    """Computes the time of each frame of one video.

    Time stamps restart where files were joined, wrap around (33 bits in MPEG-TS), repeat or are missing. Within one
    run of stamps, times are relative to its first frame. A new run starts one frame interval after the frame before
    it; a frame without a stamp, or with a repeated one, is placed likewise.

    Args:
        rate: Frames a second, for frames whose stamp cannot be used.

    Attributes:
        restarts: Number of jumps back, or forward by more than a day.
        derived: Frames whose time was computed from the rate.
    """

    def __init__(self, rate: float) -> None:
        self.restarts = self.derived = 0
        self._rate = rate
        self._number, self._time = -1, -1 / rate  # of the frame before
        self._stamp: float | None = None  # the last known stamp
        self._origin: float | None = None  # the stamp of time 0

    def time(self, number: int, stamp: float | None) -> float:
        """The time of the next frame, larger than all before it, in seconds.

        Args:
            number: Number of the frame, larger than all before it.
            stamp: Its presentation time stamp in seconds; None = it has none.
        """
        if stamp is None or stamp == self._stamp:
            self.derived += 1
            # Multiplied instead of summed where there are no stamps: no rounding errors.
            time = number / self._rate if self._stamp is None else self._expected(number)
        elif self._stamp is None or self._origin is None:
            time = 0.0 if self._number < 0 else self._expected(number)
            self._origin = stamp - time
        else:
            time = stamp - self._origin
            if self._time - _MAX_REORDER < time <= self._time:
                time = self._time + _STEP_OUT_OF_ORDER
            elif not self._time < time <= self._time + _MAX_GAP:
                jumped = not self._stamp < stamp <= self._stamp + _MAX_GAP
                self.restarts += jumped
                time = self._expected(number)
                self._origin = stamp - time
        self._stamp = self._stamp if stamp is None else stamp
        self._number, self._time = number, time
        return time

    def _expected(self, number: int) -> float:
        return self._time + (number - self._number) / self._rate
