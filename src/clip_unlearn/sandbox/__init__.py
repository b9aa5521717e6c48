"""The embedded world: small captioned pictures and the tiny trained encoders that know them."""
