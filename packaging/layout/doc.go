// Package layout holds the architecture's rules as tests: which folder may
// import which, how many packages of ours a package may import and how long a
// chain of imports may grow, which third-party module belongs to which package,
// which module may never reach a binary, and how large a file or function may grow.
//
// The package holds no code that ships.
package layout
