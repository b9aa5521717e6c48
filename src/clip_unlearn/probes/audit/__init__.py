"""Audits: attacks that try to bring the forgotten back, each with a control that shows whether it could."""
