"""Ring 2: the project's own dialplan and configuration on a real FreeSWITCH, with a second one as the public network."""
