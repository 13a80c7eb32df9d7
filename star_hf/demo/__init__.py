"""The demo's own story: build, train, and compare before and after."""
