// Package store keeps collateral in one directory, a file for each item.
//
// A file is written whole and synced before it has its name, so a crash leaves the old item or the
// new one. An item never replaces a newer one, by number or by date, whoever wrote that one: the
// comparison is made with what is on the disk, under a lock of the directory that all processes
// take, so a broker, a second one and the command line can share it. VCEKs never end and are never
// replaced by others of the same name unless the kept one is damaged.
//
// The store believes what it is given: package depot verifies before it calls [Store.Put]. Whoever
// may write the directory may also delete files, and with them the memory of what was newest.
package store
