"""Mirrors objects of a Google Cloud Storage bucket, or of a server of the same API, over HTTP."""
