"""The demo corpus: small videos of two public-domain portraits that act compound emotions."""
