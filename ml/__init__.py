"""The learned similarity metric and its peers."""
