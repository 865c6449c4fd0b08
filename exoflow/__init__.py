"""exoflow answers a business's calls on FreeSWITCH and tells the truth about each of them."""

__version__ = "0.1.0"
