"""How good judges are: calibration, panels, agreement, sensitivity."""
