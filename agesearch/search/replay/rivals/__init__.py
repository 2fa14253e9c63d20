"""Search strategies of other libraries, as their authors ship them, for replays."""
