"""Data sovereignty: transfers of data abroad, and who processes it."""
