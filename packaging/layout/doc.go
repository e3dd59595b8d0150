// Package layout holds the rules of the architecture as tests: which folder may import which, how
// many of our packages a package may import and how long a chain of imports may grow, which
// third-party module belongs to which package, which module may never be part of a program, and how
// large a file or function may grow.
//
// The package contains no code that ships.
package layout
