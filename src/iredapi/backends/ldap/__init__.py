"""Accounts in OpenLDAP, the way iRedMail keeps them."""
