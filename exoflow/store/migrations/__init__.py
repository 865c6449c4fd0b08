"""Alembic's folder, packaged with the code: `open_store` brings a store to the newest revision by itself."""
