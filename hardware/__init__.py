"""The rig contract, the safety layer, and every rig that can stand behind them."""
