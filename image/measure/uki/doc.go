// Package uki reads unified kernel images and the PE files in them, as far as firmware and systemd's stub
// measure them.
//
// [Parse] checks a PE32+ file under named limits and keeps where its parts lie; [File.Authenticode] is the digest
// that firmware measures of a program it starts, and [File.Section] is what systemd-stub measures of a section.
// [Open] reads a unified kernel image: it knows the stub's version by its mark, and so which sections that stub
// measures, in which order, and whether it has the firmware start the kernel inside. Images whose measurement
// depends on more than the file (several profiles, device trees chosen by hardware) are refused.
//
// The package trusts nothing and verifies no signature: a digest of a file that nobody should run is still its
// digest.
//
// Formats: Microsoft's PE and Authenticode specifications as edk2 applies them (SecurityPkg, HashPeImage); the
// UAPI group's Unified Kernel Image specification; systemd, src/fundamental/uki.h.
package uki
