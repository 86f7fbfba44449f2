"""The commands, a file each: the options as a dataclass, and short functions. Heavy imports inside the functions."""
