"""Tables, migrations, and the one writer: `open_store(url)` gives a `Store`, `open_reader(url)` a look from another process."""

from exoflow.store.opening import Reader, open_reader, open_store
from exoflow.store.sqlite import Store

__all__ = ["Reader", "Store", "open_reader", "open_store"]
