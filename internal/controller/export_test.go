package controller

// SetupWithClock is Setup with a clock that a test moves.
var SetupWithClock = setup
