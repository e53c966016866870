package policy

// Public is for tests.
var Public = public
