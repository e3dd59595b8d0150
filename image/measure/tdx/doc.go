// Package tdx computes MRTD, the measurement of a trust domain's build, from its firmware.
//
// MRTD is one SHA-384 over what the TDX module was told while the domain was built: the address of each page that was
// added, and the contents of each chunk of 256 bytes that was extended (Intel TDX Module Base Specification,
// TDH.MEM.PAGE.ADD and TDH.MR.EXTEND). The firmware's metadata say which pages those are. It covers the
// firmware alone; what it boots is in the RTMRs (package pcr).
//
// There is no TDX hardware in this project's tests. They compare with a module of Google's that does the same.
package tdx
