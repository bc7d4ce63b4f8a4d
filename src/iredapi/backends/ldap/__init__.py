"""Accounts in OpenLDAP."""
