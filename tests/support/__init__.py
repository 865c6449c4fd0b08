"""What the rings share: a plain event socket client and a listener's ear for recordings."""
