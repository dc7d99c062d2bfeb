"""An open-loop driver on asyncio: each event is sent at its time, whatever became of those before."""
