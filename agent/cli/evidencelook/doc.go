// Package evidencelook has the commands with which anybody looks at evidence in files, without a
// broker and without a network: "evidence verify", which judges it, and "evidence show", which
// prints what the bytes say.
//
// Files are read by package evidencefile and judged by package evidencejudge; here are the flags and the
// words. Nothing that is shown without having been verified is called anything but that.
package evidencelook
