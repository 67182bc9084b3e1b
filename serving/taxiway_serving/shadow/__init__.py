"""Shadow comparison: live requests, mirrored by the gateway, are answered by other variants too and compared."""
