// Package layout holds the architecture's rules as tests: which package may
// import which, which third-party module belongs to which package, which
// module may never reach a binary, and how large a file or function may grow.
//
// docs/architecture.md shows the same table to readers. The two change in one
// commit, with the reason. The package holds no code that ships.
package layout
